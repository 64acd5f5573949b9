"""The method's modules: quantizer, quantized layers, switchable BN, conversion; torch only."""
