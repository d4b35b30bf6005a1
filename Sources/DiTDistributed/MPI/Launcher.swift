/// What the program that started this process says of it: `mpirun`, `mpiexec`, `srun`.
package struct Launcher: Equatable, Sendable {
  /// How it is called in messages.
  package let name: String
  /// How many processes it started; nil where it does not say.
  package let size: Int?
  /// Whether its own MPI is Open MPI; nil where it serves several.
  package let isOpenMPI: Bool?
  /// Whether it has told the processes how they find each other.
  package let hasInterface: Bool

  /// By the variables that launchers set; nil where there is none.
  package init?(_ environment: [String: String]) {
    func number(_ name: String) -> Int? { environment[name].flatMap { Int($0) } }
    if let size = number("OMPI_COMM_WORLD_SIZE") {
      self.init(name: "Open MPI's mpirun", size: size, isOpenMPI: true)
    } else if let size = number("PMI_SIZE") {
      self.init(name: environment["SLURM_STEP_ID"] == nil ? "MPICH's mpiexec" : "srun", size: size, isOpenMPI: false)
    } else if environment["PMIX_RANK"] != nil {
      let steps = number("SLURM_STEP_NUM_TASKS")
      self.init(name: steps == nil ? "a launcher with PMIx" : "srun", size: steps, isOpenMPI: nil)
    } else if environment["SLURM_STEP_ID"] != nil, let size = number("SLURM_STEP_NUM_TASKS") {
      self.init(
        name: "srun", size: size, isOpenMPI: nil, hasInterface: environment.keys.contains { $0.hasPrefix("PMI") })
    } else {
      return nil
    }
  }

  private init(name: String, size: Int?, isOpenMPI: Bool?, hasInterface: Bool = true) {
    (self.name, self.size, self.isOpenMPI, self.hasInterface) = (name, size, isOpenMPI, hasInterface)
  }

  /// The libraries to try, by the names that the system's search takes: the launcher's own family first.
  package static func libraries(_ environment: [String: String]) -> [String] {
    #if os(macOS)
      let (open, mpich) = (["libmpi.40.dylib"], ["libmpi_abi.1.dylib", "libmpi.12.dylib", "libmpich.12.dylib"])
    #else
      let (open, mpich) = (["libmpi.so.40"], ["libmpi_abi.so.1", "libmpi.so.12", "libmpich.so.12"])
    #endif
    return Launcher(environment)?.isOpenMPI == false ? mpich + open : open + mpich
  }
}
