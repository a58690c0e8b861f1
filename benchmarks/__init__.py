"""Measurements that anyone can repeat; none is a test."""
