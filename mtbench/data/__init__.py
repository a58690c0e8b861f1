"""What data sets are made with: downloads, archives, images, feature files, splits.

A data set says where its files come from (`sources`), fetches and checks them (`downloads`), turns them once into files
of its own (`preparation`, `image_cache`, `feature_file`), and draws its splits (`splits`).
"""
