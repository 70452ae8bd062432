"""Models from other systems, and models for them: nnU-Net folders, ONNX, TorchScript, MONAI bundles."""
