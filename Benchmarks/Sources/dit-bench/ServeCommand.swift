import ArgumentParser

/// `dit-bench serve`: a worker for a program that times several engines.
struct ServeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Answer requests: one JSON object a line on stdin, one answer a line on stdout.",
    discussion: """
      {"op":"describe"}            engine, version, threads, detail
      {"op":"peaks"}               fp32_gflops, bf16_gflops
      {"op":"prepare","work":{…}}  seconds; for training the first step's loss
      {"op":"run","count":n}       n seconds; for training the last step's loss
      {"op":"memory"}              rss_bytes, peak_rss_bytes
      {"op":"release"}             {}
      What fails answers {"error":"…"}, and the worker goes on. The work is an object
      with kind (forward, train or sample), config, batch, precision, gemm, and the
      paths weights, inputs, output of safetensors files.
      """)

  @OptionGroup var options: ContextOptions

  func run() throws {
    let worker = Worker(try options.makeContext())
    while let line = readLine() { worker.answer(line) }
  }
}
