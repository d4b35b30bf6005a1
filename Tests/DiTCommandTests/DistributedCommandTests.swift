import Foundation
import TestSupport
import Testing

/// What needs no MPI: `Scripts/cluster-test` runs real ranks.
@Suite("Commands of several processes, where there is no MPI")
struct DistributedCommandTests {
  @Test("A library that cannot be loaded is named with the variable that chose it, and nothing is written")
  func noLibrary() async throws {
    let scratch = try Scratch()
    let variables = ["DIT_MPI_LIBRARY": "/nowhere/libmpi.so"]
    for arguments in [
      ["mpi-info"], ["train", "--distributed", "mpi", "--data", "digits", "--out", scratch.path("run")],
    ] {
      let result = try await Tool.run(arguments, environment: variables)
      #expect(result.status == 64 && result.stdout.isEmpty)
      #expect(
        result.stderr.hasPrefix("Error: DIT_MPI_LIBRARY=/nowhere/libmpi.so: expected an MPI library"),
        "\(result.stderr)")
    }
    #expect(!FileManager.default.fileExists(atPath: scratch.path("run")))
  }

  @Test("Options of several processes are refused by one, and other words than mpi")
  func options() async throws {
    let alone = try await Tool.run(["train", "--mixed-cpus", "--data", "digits", "--out", "/nowhere/run"])
    #expect(alone.status == 64 && alone.stderr.contains("--mixed-cpus: expected --distributed beside it"))
    let other = try await Tool.run(["train", "--distributed", "gloo", "--data", "digits", "--out", "/nowhere/run"])
    #expect(other.status == 64 && other.stderr.contains("--distributed"))
  }
}
