// swift-format-ignore-file: OrderedImports
// What a program needs to load, sample, edit, train and evaluate, under names that shadow nothing; every other type is in a module
// of its own, all of them together in `DiTEngine`. A program that links either needs no system library but OpenBLAS, LAPACKE and zlib.

// Models: loaded, and described.
@_exported import class DiTAutoencoder.Autoencoder
@_exported import class DiTKernels.ComputeContext
@_exported import struct DiTKernels.Numerics
@_exported import enum DiTKernels.Precision
@_exported import struct DiTModel.DiTConfiguration
@_exported import struct DiTDiffusion.DiffusionConfiguration
@_exported import struct DiTPipeline.DiT
@_exported import struct DiTPipeline.ModelConfiguration
@_exported import struct DiTPipeline.ModelConversion
@_exported import enum DiTPipeline.ModelFamily
@_exported import struct DiTPipeline.ModelKeys
@_exported import enum DiTPipeline.WeightChoice
@_exported import struct DiTTensor.Tensor

// Sampling: what is asked for, how, and what comes.
@_exported import enum DiTPipeline.Condition
@_exported import enum DiTPipeline.ConditioningSequence
@_exported import struct DiTDiffusion.Guidance
@_exported import struct DiTPipeline.ImageShare
@_exported import struct DiTPipeline.Inpainting
@_exported import enum DiTPipeline.RandomStream
@_exported import struct DiTPipeline.Sample
@_exported import struct DiTPipeline.Sampler
@_exported import enum DiTDiffusion.SamplerName
@_exported import struct DiTPipeline.Samples
@_exported import struct DiTPipeline.SamplingConfiguration
@_exported import struct DiTPipeline.SamplingOptions
@_exported import struct DiTPipeline.SamplingProgress
@_exported import class DiTPipeline.SamplingSequence
@_exported import class DiTPipeline.SamplingSession
@_exported import enum DiTPipeline.Start
@_exported import enum DiTDiffusion.StepSchedule
@_exported import struct DiTDiffusion.StepTolerance

// Training and evaluation.
@_exported import struct DiTTraining.Dataset
@_exported import struct DiTEvaluation.Evaluation
@_exported import struct DiTEvaluation.EvaluationOptions
@_exported import struct DiTEvaluation.SampleSet
@_exported import class DiTTraining.Trainer
@_exported import struct DiTTraining.TrainingConfiguration
@_exported import enum DiTTraining.TrainingEvent
@_exported import class DiTTraining.TrainingEvents
@_exported import enum DiTTraining.TrainingOutcome
@_exported import class DiTTraining.TrainingRun

// Errors.
@_exported import struct DiTTensor.DiTError
@_exported import struct DiTTraining.Divergence
@_exported import enum DiTTensor.FileProblem
@_exported import struct DiTTensor.Overflow
@_exported import enum DiTTraining.RunProblem
@_exported import struct DiTTensor.StateDictMismatch
