//! An opcode and its modifiers. Those that nobody asks for are unsupported, unless they change no result.

use super::Decoded;
use crate::ir::{Flavour, Reduction, Rounding, Space};
use crate::ty::Ty;
use std::cell::Cell;

/// Memory order and scope (every access is ordered here), caching, and that all lanes of a warp come together.
const HARMLESS: &[&str] = &[
    "volatile", "relaxed", "acquire", "release", "acq_rel", "weak", "cta", "gpu", "sys", "cluster",
    "nc", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "sync", "aligned", "uni", "lo", "approx",
    "full", "noftz",
];

pub struct Opcode<'a> {
    pub name: &'a str,
    modifiers: Vec<&'a str>,
    /// A bit per modifier.
    asked: Cell<u32>,
}

impl<'a> Opcode<'a> {
    pub fn new(text: &'a str) -> Self {
        let mut parts = text.split('.');
        Self {
            name: parts.next().unwrap_or_default(),
            modifiers: parts.collect(),
            asked: Cell::new(0),
        }
    }

    fn ask(&self, index: usize) {
        self.asked.set(self.asked.get() | 1 << index);
    }

    pub fn has(&self, modifier: &str) -> bool {
        self.find(|m| (m == modifier).then_some(())).is_some()
    }

    /// The first modifier that means something to `f`; all that do count as asked for.
    pub fn find<T>(&self, f: impl Fn(&'a str) -> Option<T>) -> Option<T> {
        self.all(f).into_iter().next()
    }

    /// What all modifiers that mean something to `f` mean.
    pub fn all<T>(&self, f: impl Fn(&'a str) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        for (i, modifier) in self.modifiers.iter().enumerate() {
            if let Some(meaning) = f(modifier) {
                self.ask(i);
                found.push(meaning);
            }
        }
        found
    }

    /// The modifier that follows the name.
    pub fn first(&self) -> &'a str {
        self.ask(0);
        self.modifiers.first().copied().unwrap_or_default()
    }

    pub fn unknown(&self) -> Option<&'a str> {
        let harmless =
            |m: &str| HARMLESS.contains(&m) || m.starts_with("L1::") || m.starts_with("L2::");
        let rest = self.modifiers.iter().enumerate();
        let mut rest = rest.filter(|(i, _)| self.asked.get() >> i & 1 == 0);
        rest.find(|(_, m)| !harmless(m)).map(|(_, m)| *m)
    }

    pub fn types(&self) -> Vec<Ty> {
        self.all(Ty::parse)
    }

    /// The last type: that of the operands.
    pub fn ty(&self) -> Decoded<Ty> {
        self.types().pop().ok_or_else(|| "no supported type".into())
    }

    pub fn rounding(&self) -> Option<Rounding> {
        self.find(|m| {
            Some(match m {
                "rn" => Rounding::Nearest,
                "rz" => Rounding::Zero,
                "rm" => Rounding::Down,
                "rp" => Rounding::Up,
                _ => return None,
            })
        })
    }

    /// Rounding to an integral value.
    pub fn integral_rounding(&self) -> Option<Rounding> {
        self.find(|m| {
            Some(match m {
                "rni" => Rounding::Nearest,
                "rzi" => Rounding::Zero,
                "rmi" => Rounding::Down,
                "rpi" => Rounding::Up,
                _ => return None,
            })
        })
    }

    pub fn flavour(&self) -> Flavour {
        Flavour {
            ftz: self.has("ftz"),
            sat: self.has("sat"),
            relu: self.has("relu"),
            nan: self.has("NaN"),
            rounding: self.rounding().unwrap_or(Rounding::Nearest),
        }
    }

    pub fn space(&self) -> Space {
        self.find(parse_space).unwrap_or(Space::Generic)
    }

    pub fn spaces(&self) -> Vec<Space> {
        self.all(parse_space)
    }

    pub fn reduction(&self) -> Option<Reduction> {
        self.find(|m| {
            Some(match m {
                "add" => Reduction::Add,
                "min" => Reduction::Min,
                "max" => Reduction::Max,
                "and" => Reduction::And,
                "or" => Reduction::Or,
                "xor" => Reduction::Xor,
                "inc" => Reduction::Inc,
                "dec" => Reduction::Dec,
                _ => return None,
            })
        })
    }
}

fn parse_space(modifier: &str) -> Option<Space> {
    Some(match modifier {
        "global" | "const" => Space::Global,
        "shared" | "shared::cta" => Space::Shared,
        "shared::cluster" => Space::Cluster,
        "local" => Space::Local,
        "param" => Space::Param,
        _ => return None,
    })
}
