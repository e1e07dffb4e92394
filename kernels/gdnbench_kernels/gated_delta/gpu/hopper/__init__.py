"""The kernels that pay to be written for one chip: in Gluon, for sm_90, with its copy engine and register operands."""
