"""Environments of gymnasium: spaces, scripted experts, recorded trajectories, vectors."""
