"""Reading image files of many formats as sRGB."""
