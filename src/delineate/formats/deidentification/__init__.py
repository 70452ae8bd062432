"""DICOM objects without what tells whom they are about (PS3.15 Annex E)."""
