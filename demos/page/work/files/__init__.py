"""Files that a visitor brings and takes home: photos, masks, scenes, exports."""
