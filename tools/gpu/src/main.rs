//! Checks and times the library on a GPU, through CUDA and through Vulkan: results against the `f64` reference, bits
//! against those of earlier runs, then device times, as a file and as a short table.

mod bench;
mod check;
mod choice;
mod clock;
mod data;
mod machine;
mod record;
mod shapes;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use diff_flash_attn::{Client, device};

use check::Count;
use choice::Choice;
use clock::Budget;
use machine::Machine;
use record::Results;

/// Checks and times differential attention on this machine's GPU.
#[derive(Parser)]
#[command(name = "gpu")]
struct Cli {
    /// Ways to the GPU.
    #[arg(long, value_enum, default_values_t = [Way::Cuda, Way::Vulkan])]
    device: Vec<Way>,
    /// Where the times go; tools/peers compares them with those of other libraries.
    #[arg(long, default_value = "gpu.json")]
    json: PathBuf,
    /// Take a software adapter, too: to try this program where there is no GPU.
    #[arg(long)]
    software: bool,
    /// Leave out the comparison with the reference.
    #[arg(long)]
    no_check: bool,
    /// Leave out the benchmark.
    #[arg(long)]
    no_bench: bool,
    /// How often a result is computed again to compare its bits.
    #[arg(long, default_value_t = 200)]
    repeats: usize,
    /// No check or measurement is begun after this many seconds.
    #[arg(long, default_value_t = 450)]
    seconds: u64,
    #[command(flatten)]
    choice: Choice,
}

/// Runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// The CUDA driver.
    Cuda,
    /// wgpu's adapter: Vulkan, Metal or DirectX 12.
    Vulkan,
}

impl Way {
    fn client(self, software: bool) -> Result<Client> {
        match self {
            Way::Cuda => Ok(device::cuda(0)?),
            Way::Vulkan => {
                let client = device::wgpu()?;
                let name = client.properties().identity.name.clone();
                let drivers = ["llvmpipe", "SwiftShader"];
                anyhow::ensure!(
                    software || !drivers.iter().any(|driver| name.contains(driver)),
                    "{name} is no GPU"
                );
                Ok(client)
            }
        }
    }
}

/// The parts of the time that one of several devices has, and of that its checks: the rest is the benchmark's at least.
const FIRST_DEVICE: f64 = 0.75;
const CHECKS: f64 = 0.6;

impl Cli {
    /// Those that are there; says why others are not.
    fn devices(&self) -> Vec<Client> {
        let client = |way: &Way| match way.client(self.software) {
            Ok(client) => Some(client),
            Err(reason) => {
                println!("{way:?}: SKIPPED: {reason:#}");
                None
            }
        };
        self.device.iter().filter_map(client).collect()
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether there was a device with something to do, and nothing on it was wrong.
fn run(cli: &Cli) -> Result<bool> {
    let budget = Budget::new(cli.seconds);
    let mut results = Results::new(Machine::read());
    println!("{}", results.machine);
    let devices = cli.devices();
    let mut count = Count::default();
    for (i, client) in devices.iter().enumerate() {
        let last = i + 1 == devices.len();
        let budget = budget.part(if last { 1.0 } else { FIRST_DEVICE });
        println!("\n{}", device::describe(client));
        if !cli.no_check {
            let budget = budget.part(if cli.no_bench { 1.0 } else { CHECKS });
            count += check::run(client, &cli.choice, cli.repeats, &budget);
        }
        if !cli.no_bench {
            bench::run(client, &cli.choice, &budget, &mut results);
            results.write(&cli.json)?;
        }
    }
    let (Count { compared, wrong }, timed) = (count, results.timed());
    println!(
        "\n{} devices, {compared} results compared, {wrong} wrong, {timed} calls timed, {}",
        devices.len(),
        budget.spent()
    );
    if !cli.no_bench {
        let json = std::path::absolute(&cli.json)?;
        println!("times: {}\n", json.display());
        println!("{}", table::render(&results));
    }
    let something = compared + results.results.len() > 0;
    Ok(something && wrong == 0)
}
