import DiTDistributed
import DiTTensor
import Testing

@Suite("What a launcher says, and which library serves it")
struct LauncherTests {
  @Test("Launchers are told by their variables, and their own family's library is tried first")
  func launchers() {
    let open = Launcher(["OMPI_COMM_WORLD_SIZE": "4", "SLURM_NTASKS": "9", "SLURM_STEP_NUM_TASKS": "2"])
    #expect(open?.size == 4 && open?.isOpenMPI == true)
    let mpich = Launcher(["PMI_SIZE": "3", "PMI_RANK": "1"])
    #expect(mpich?.size == 3 && mpich?.isOpenMPI == false && mpich?.name.contains("MPICH") == true)
    let srun = Launcher(["PMIX_RANK": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8"])
    #expect(srun?.size == 8 && srun?.name == "srun")
    #expect(
      Launcher(["SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8"])?.size == 8, "srun without any of MPI's interfaces")
    for (variables, hasInterface) in [([:], false), (["PMI_FD": "3"], true), (["PMIX_RANK": "0"], true)] {
      let step = ["SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8"].merging(variables) { $1 }
      #expect(Launcher(step)?.hasInterface == hasInterface)
    }
    #expect(Launcher(["SLURM_NTASKS": "8"]) == nil, "a batch script's own process")
    #expect(Launcher([:]) == nil)
    #expect(Launcher.libraries(["PMI_SIZE": "2"]).last?.contains("40") == true)
    #expect(Launcher.libraries(["OMPI_COMM_WORLD_SIZE": "2"]).first?.contains("40") == true)
    #expect(Launcher.libraries([:]).count == 4)
  }

  @Test("How long to wait is read, or refused by its variable")
  func patience() throws {
    #expect(try MPICommunicator.patience(nil) == .seconds(1800) && MPICommunicator.patience("2.5") == .seconds(2.5))
    for text in ["", "soon", "0", "-1", "nan", "inf"] {
      let error = #expect(throws: DiTError.self) { try MPICommunicator.patience(text) }
      #expect(error?.description.hasPrefix("DIT_MPI_TIMEOUT=\(text): expected seconds above 0") == true)
    }
  }

  @Test("A library that is none is refused with what was tried")
  func refusals() {
    let missing = #expect(throws: DiTError.self) { try MPILibrary([MPILibrary.variable: "/nowhere/libmpi.so"]) }
    #expect(missing?.description.hasPrefix("DIT_MPI_LIBRARY=/nowhere/libmpi.so: expected an MPI library") == true)
    #expect(missing?.exitStatus == 64 && missing?.found?.contains("/nowhere/libmpi.so") == true)
    let other = #expect(throws: DiTError.self) { try MPILibrary([MPILibrary.variable: "libz.so.1"]) }
    #expect(
      other?.found?.contains("it has no MPI_") == true || other?.found?.contains("libz") == true,
      "\(other.map { "\($0)" } ?? "")")
  }
}
