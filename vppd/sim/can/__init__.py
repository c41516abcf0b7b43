"""The simulated BMS on CAN and the interfaces it speaks on."""
