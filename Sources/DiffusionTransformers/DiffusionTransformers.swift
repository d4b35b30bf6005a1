// The whole engine under one import. A program that links it needs no system library but OpenBLAS and LAPACKE.

@_exported import DiTAutoencoder
@_exported import DiTDiffusers
@_exported import DiTDiffusion
@_exported import DiTEvaluation
@_exported import DiTFiles
@_exported import DiTKernels
@_exported import DiTLinearAlgebra
@_exported import DiTModel
@_exported import DiTPipeline
@_exported import DiTTensor
@_exported import DiTTraining
