//! Compiled kernels in files, so that each distinct source is compiled once, by whichever process comes first.

use std::hash::Hash;
use std::io::{Result, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, process};

use cubecl_core::hash::StableHasher;
use diff_flash_attn::device::nvrtc::Compiled;

/// Part of every key: counts the forms that files have had.
const FORM: u32 = 1;

/// A folder of files, one for each key. Processes may share it: a file is complete before it has its name.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// In the folder that the environment variable `PTX_CACHE` names, unless it says `off`; else in this repository's
    /// target folder.
    pub fn chosen() -> Option<Self> {
        let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/ptx-cache");
        match std::env::var_os("PTX_CACHE") {
            Some(choice) if choice == "off" => None,
            Some(folder) if !folder.is_empty() => Some(Self::new(folder.into())),
            _ => Some(Self::new(usual.into())),
        }
    }

    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A name for everything that decides about a result: equal in every process, 128 bits of it.
    pub fn key(of: &impl Hash) -> String {
        format!("{:032x}", StableHasher::hash_one(&(FORM, of)))
    }

    /// What was kept. A file that is cut short counts as none.
    pub fn get(&self, key: &str) -> Option<Compiled> {
        decode(&fs::read(self.folder.join(key)).ok()?)
    }

    /// Keeps a result.
    pub fn put(&self, key: &str, compiled: &Compiled) -> Result<()> {
        static FILES: AtomicUsize = AtomicUsize::new(0);

        fs::create_dir_all(&self.folder)?;
        // No other writer has this name.
        let (process, file) = (process::id(), FILES.fetch_add(1, Ordering::Relaxed));
        let unfinished = self.folder.join(format!(".{key}-{process}-{file}"));
        let mut to = fs::File::create(&unfinished)?;
        to.write_all(&encode(compiled))?;
        fs::rename(unfinished, self.folder.join(key))
    }
}

/// Each part after its length.
fn encode(compiled: &Compiled) -> Vec<u8> {
    let Compiled {
        ptx,
        machine_code,
        log,
    } = compiled;
    let mut bytes = Vec::new();
    for part in [ptx.as_bytes(), machine_code, log.as_bytes()] {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part);
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<Compiled> {
    let mut part = || {
        let (len, rest) = bytes.split_first_chunk()?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        let (part, rest) = rest.split_at_checked(len)?;
        bytes = rest;
        Some(part.to_vec())
    };
    let [ptx, machine_code, log] = [part()?, part()?, part()?];
    Some(Compiled {
        ptx: String::from_utf8(ptx).ok()?,
        machine_code,
        log: String::from_utf8(log).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled() -> Compiled {
        Compiled {
            ptx: ".version 8.0 // λ".into(),
            machine_code: vec![0, 255, 7],
            log: String::new(),
        }
    }

    #[test]
    fn what_was_kept_is_found_by_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("new"));
        let [here, there] = ["a", "b"].map(|source| Cache::key(&("12.9", source)));
        assert_eq!(cache.get(&here), None);
        cache.put(&here, &compiled()).unwrap();
        assert_eq!(cache.get(&here), Some(compiled()));
        assert_eq!(cache.get(&there), None);
        // Again, as by a process that compiled at the same time; nothing unfinished stays.
        cache.put(&here, &compiled()).unwrap();
        assert_eq!(fs::read_dir(cache.folder()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_cut_short_is_none() {
        let whole = encode(&compiled());
        assert_eq!(decode(&whole), Some(compiled()));
        for len in 0..whole.len() {
            assert_eq!(decode(&whole[..len]), None, "{len}");
        }
    }
}
