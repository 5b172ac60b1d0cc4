"""A checkpoint in a format that other programs run: ONNX, OpenVINO (also int8), torch.export.

One file a format (`to_*.py`); `formats` lists them, `accept` compares each file with the
checkpoint before it gets its name. The packages behind them are optional and imported when used.
"""
