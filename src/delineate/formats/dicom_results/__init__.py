"""DICOM objects that say something of images: segmentations, structure sets and reports, in and out."""
