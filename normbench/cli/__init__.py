"""The door: every command of `normbench`, its help, its lists and its launcher."""
