"""DICOM images in and out: headers, the policy that sorts series out, pixels, and an index of trees."""
