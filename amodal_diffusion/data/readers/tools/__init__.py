"""Files of annotation tools: CVAT, Label Studio, labelme. Objects are shapes that people drew."""

__all__ = ["brush_rle", "cvat", "label_studio", "labelme", "shapes"]
