"""Folders of photographs: their files, decoded once or in every epoch, and the papers' crops."""
