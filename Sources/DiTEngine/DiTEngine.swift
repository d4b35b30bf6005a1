// Every module of the engine under one import, for programs that build on its parts: kernels, memory, the network's passes,
// samplers, file formats. What an ordinary program needs is `DiffusionTransformers`, which exports that alone.

@_exported import DiTAutoencoder
@_exported import DiTDiffusers
@_exported import DiTDiffusion
@_exported import DiTDistributed
@_exported import DiTEvaluation
@_exported import DiTFeatures
@_exported import DiTFiles
@_exported import DiTKernels
@_exported import DiTLinearAlgebra
@_exported import DiTModel
@_exported import DiTPipeline
@_exported import DiTTensor
@_exported import DiTTraining
