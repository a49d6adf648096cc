"""Where datasets come from: what is published of each, and how its files are brought and checked."""
