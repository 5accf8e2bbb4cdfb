//! Settings given by hand: which family, and how each of its kernels.

use core::fmt::Display;

use super::Settings;
use crate::error::{Error, Result};
use crate::plan::{Family, Pass};

/// Settings that override the tables', and the choice of the family.
///
/// ```
/// use diff_flash_attn::Tuning;
/// use diff_flash_attn::tuning::{Pass, Plane, PortableSettings};
/// let settings = PortableSettings::new([2, 4, 8, 8, 32], Plane::Unused);
/// let tuning = Tuning::default().with(Pass::Forward, settings);
/// assert_eq!(tuning.forward, Some(settings.into()));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tuning {
    /// Which family; it must be able to, in every pass that it has kernels for. By default the one that has settings
    /// here, or else the first that can: [`Plan::describe`](crate::Plan::describe) tells.
    pub family: Option<Family>,
    /// Of the forward kernel.
    pub forward: Option<Settings>,
    /// Of the kernel for the query's gradient.
    pub query_gradient: Option<Settings>,
    /// Of the kernel for the gradients of key and value.
    pub key_value_gradient: Option<Settings>,
}

impl Tuning {
    /// A family by name, with its own settings.
    pub const fn of(family: Family) -> Self {
        Self {
            family: Some(family),
            forward: None,
            query_gradient: None,
            key_value_gradient: None,
        }
    }

    /// Sets the settings of one pass.
    pub fn with(mut self, pass: Pass, settings: impl Into<Settings>) -> Self {
        *self.slot(pass) = Some(settings.into());
        self
    }

    fn slot(&mut self, pass: Pass) -> &mut Option<Settings> {
        match pass {
            Pass::Forward => &mut self.forward,
            Pass::QueryGradient => &mut self.query_gradient,
            Pass::KeyValueGradient => &mut self.key_value_gradient,
        }
    }

    /// The settings of a pass, if any are given.
    pub fn settings(mut self, pass: Pass) -> Option<Settings> {
        *self.slot(pass)
    }

    /// The family that is asked for in some passes, which must be one: by name, or by its settings.
    ///
    /// # Errors
    /// [`Error::Settings`] if they contradict each other.
    pub(crate) fn asked(&self, passes: &[Pass]) -> Result<Option<Family>> {
        let given = passes.iter().filter_map(|pass| self.settings(*pass));
        let mut asked = None;
        for settings in given {
            let family = settings.family();
            match asked.or(self.family) {
                Some(other) if other != family => return Err(contradiction(settings, other)),
                _ => asked = Some(family),
            }
        }
        Ok(asked)
    }
}

fn contradiction(settings: impl Display, other: Family) -> Error {
    Error::Settings {
        settings: settings.to_string(),
        problem: format!("given together with the family {other}"),
    }
}
