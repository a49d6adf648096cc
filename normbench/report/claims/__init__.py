"""What the papers claim, each as a contrast of cells, and what the runs here say of it."""
