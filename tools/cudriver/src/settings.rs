//! What devices the driver shows and what it does with launches: environment variables, read when a program first calls.

use std::ffi::OsString;
use std::path::PathBuf;

/// Names of the variables.
const COMPUTE_CAPABILITY: &str = "SIMULATED_CUDA_COMPUTE_CAPABILITY";
const MULTIPROCESSORS: &str = "SIMULATED_CUDA_MULTIPROCESSORS";
const SHARED_MEMORY: &str = "SIMULATED_CUDA_SHARED_MEMORY";
const DEVICES: &str = "SIMULATED_CUDA_DEVICES";
const LAUNCHES: &str = "SIMULATED_CUDA_LAUNCHES";
const RECORD: &str = "SIMULATED_CUDA_RECORD";

/// What [`LAUNCHES`] can say.
const RUN: &str = "run";
const NOTHING: &str = "nothing";

/// What the driver shows and does. The default is one H100 that runs what is launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Of every device, as one number: 90 is 9.0.
    pub compute_capability: u32,
    /// Of every device.
    pub multiprocessors: u32,
    /// The most shared memory that one cube can ask for, in bytes.
    pub shared_memory: usize,
    /// How many devices there are. They share one memory.
    pub devices: u32,
    /// Whether kernels run. Where they do not, only what calls cost the host remains.
    pub run: bool,
    /// A file that gets a line for each launch, in the form of a [`Launched`].
    pub record: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            compute_capability: 90,
            multiprocessors: 132,
            shared_memory: 227 << 10,
            devices: 1,
            run: true,
            record: None,
        }
    }
}

impl Settings {
    /// Those that this process was started with.
    ///
    /// # Errors
    /// The name and value of a variable that makes no sense.
    pub fn read() -> Result<Self, String> {
        Self::parse(|name| std::env::var_os(name))
    }

    fn parse(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, String> {
        let usual = Self::default();
        let number = |name: &str, usual: usize| match get(name) {
            None => Ok(usual),
            Some(value) => {
                let number = value.to_str().and_then(|value| value.parse().ok());
                number.ok_or(format!("{name}={} is no number", value.display()))
            }
        };
        let run = match get(LAUNCHES) {
            None => usual.run,
            Some(value) if value == RUN => true,
            Some(value) if value == NOTHING => false,
            Some(value) => {
                return Err(format!(
                    "{LAUNCHES}={}: {RUN} or {NOTHING}",
                    value.display()
                ));
            }
        };
        Ok(Self {
            compute_capability: number(COMPUTE_CAPABILITY, usual.compute_capability as usize)?
                as u32,
            multiprocessors: number(MULTIPROCESSORS, usual.multiprocessors as usize)? as u32,
            shared_memory: number(SHARED_MEMORY, usual.shared_memory)?,
            devices: number(DEVICES, usual.devices as usize)? as u32,
            run,
            record: get(RECORD).map(PathBuf::from),
        })
    }

    /// The variables that say this to a program.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![
            (COMPUTE_CAPABILITY, self.compute_capability.to_string()),
            (MULTIPROCESSORS, self.multiprocessors.to_string()),
            (SHARED_MEMORY, self.shared_memory.to_string()),
            (DEVICES, self.devices.to_string()),
            (LAUNCHES, if self.run { RUN } else { NOTHING }.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect::<Vec<_>>();
        variables.extend(self.record.iter().map(|file| (RECORD, file.into())));
        variables
    }
}

/// A launch as it was asked for. Its `Display` is one line, which [`parse`](Self::parse) reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// Number of the device whose context was current.
    pub device: u32,
    /// The stream's handle: 0 is the default stream.
    pub stream: usize,
    /// Name of the kernel.
    pub kernel: String,
    /// Cubes along each axis.
    pub grid: [u32; 3],
    /// Units of a cube along each axis.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: usize,
}

impl Launched {
    /// Reads a line.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let [device, stream] = [words.next()?, words.next()?];
        let kernel = words.next()?.to_string();
        let numbers: Vec<u32> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let &[x, y, z, block_x, block_y, block_z, shared] = &numbers[..] else {
            return None;
        };
        Some(Self {
            device: device.parse().ok()?,
            stream: stream.parse().ok()?,
            kernel,
            grid: [x, y, z],
            block: [block_x, block_y, block_z],
            shared: shared as usize,
        })
    }
}

impl std::fmt::Display for Launched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.device, self.stream, self.kernel)?;
        for number in self.grid.iter().chain(&self.block) {
            write!(f, " {number}")?;
        }
        write!(f, " {}", self.shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_reads_what_it_was_told() {
        let settings = Settings {
            compute_capability: 86,
            multiprocessors: 82,
            shared_memory: 99 << 10,
            devices: 2,
            run: false,
            record: Some("launches".into()),
        };
        for settings in [settings, Settings::default()] {
            let variables = settings.variables();
            let find = |name: &str| variables.iter().find(|(found, _)| *found == name);
            let read = Settings::parse(|name| find(name).map(|(_, value)| value.clone()));
            assert_eq!(read, Ok(settings));
        }
        assert_eq!(Settings::parse(|_| None), Ok(Settings::default()));
    }

    #[test]
    fn nonsense_is_an_error() {
        let all = Settings::parse(|name| (name == DEVICES).then(|| "all".into()));
        assert_eq!(all.unwrap_err(), "SIMULATED_CUDA_DEVICES=all is no number");
        let some = Settings::parse(|name| (name == LAUNCHES).then(|| "some".into()));
        assert!(some.is_err());
    }

    #[test]
    fn a_line_is_a_launch() {
        let launched = Launched {
            device: 1,
            stream: 12,
            kernel: "forward_f32".into(),
            grid: [3, 4, 5],
            block: [32, 1, 1],
            shared: 1024,
        };
        assert_eq!(Launched::parse(&launched.to_string()), Some(launched));
        assert_eq!(Launched::parse("0 0 forward 1 1"), None);
    }
}
