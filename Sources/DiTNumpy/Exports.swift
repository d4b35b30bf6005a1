// What every call may throw can be named by programs that import this module alone.

@_exported import struct DiTTensor.DiTError
@_exported import enum DiTTensor.FileProblem
