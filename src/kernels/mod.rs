//! When and where: the list of families of kernels, a folder for each, and the passes that belong to none.

mod choose;
mod family;
#[cfg(feature = "hopper")]
pub(crate) mod hopper;
#[cfg(feature = "hopper")]
pub(crate) mod mma;
mod names;
mod numbers;
pub(crate) mod passes;
pub(crate) mod portable;
mod settings;
mod table;
#[cfg(feature = "hopper")]
mod warp;
mod work;

use core::fmt::{self, Display};

pub(crate) use choose::{backward, forward};
pub use choose::{candidates, shipped};
pub use settings::Tuning;
pub use table::{MaskKind, Measured, Shipped};

use crate::plan::Family;
use family::Kernels;

/// The families of this build, and the settings of each: fastest first, and last the one that takes every problem.
macro_rules! families {
    ($($(#[$attribute:meta])* $family:ident = $kernels:path, $settings:path;)+) => {
        static ALL: &[&dyn Kernels] = &[$($(#[$attribute])* &$kernels,)+];

        /// Settings of one kernel of any family.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Settings {
            $(
                $(#[$attribute])*
                #[doc = concat!("Of the family [`", stringify!($family), "`](Family::", stringify!($family), ").")]
                $family($settings),
            )+
        }

        impl Settings {
            /// The family that they are for.
            pub fn family(&self) -> Family {
                match self {
                    $($(#[$attribute])* Settings::$family(_) => Family::$family,)+
                }
            }
        }

        impl Display for Settings {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($(#[$attribute])* Settings::$family(settings) => Display::fmt(settings, f),)+
                }
            }
        }

        $(
            $(#[$attribute])*
            impl From<$settings> for Settings {
                fn from(settings: $settings) -> Self {
                    Settings::$family(settings)
                }
            }
        )+
    };
}

families! {
    #[cfg(feature = "hopper")]
    Hopper = hopper::KERNELS, hopper::HopperSettings;
    #[cfg(feature = "hopper")]
    Mma = mma::KERNELS, mma::MmaSettings;
    Portable = portable::KERNELS, portable::PortableSettings;
}
