"""What runs the network: uint8 pixels in, logits out.

`engine` says what one is; `torch_engine` and `openvino_engine` are; `int8` finds or makes what the
latter needs for int8. `choose` tries them in the order that suits the processor (`processor`) and
takes the first that agrees with float32 on the pictures in `golden`. `capacity` finds how much one
pass should hold.
"""
