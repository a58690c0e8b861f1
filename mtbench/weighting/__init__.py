"""What several weightings share: small problems on Gram matrices, and draws that follow from a step's key."""
