//! One launch of a kernel, decided but not made.

use core::fmt::{self, Debug, Display};

use cubecl::prelude::*;
use cubecl::server::Handle;

use super::family::Family;
use super::operand::Operand;
use super::view::View;
use crate::dtype::DType;

/// A launch with everything that it is made of, but the buffers.
///
/// It depends on shapes, strides, options and the device alone, never on what the tensors hold: so a plan can be run again
/// on others.
pub(crate) trait Step: Debug + Send + Sync {
    /// What will be launched, in words and numbers.
    fn describe(&self) -> Description;

    /// Enqueues the kernel.
    ///
    /// # Safety
    /// The operands must be bound to buffers that hold what the step's views reach.
    unsafe fn enqueue(&self, client: &Client, bound: &Bound);
}

/// What one step launches, for people and tools.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Description {
    /// The kernel's name.
    pub kernel: &'static str,
    /// The family it belongs to; `None` for the passes that belong to none.
    pub family: Option<Family>,
    /// Its settings by name, if it has any.
    pub settings: Option<String>,
    /// Storage type that it is compiled for.
    pub dtype: DType,
    /// Cubes along each axis.
    pub grid: [u32; 3],
    /// Units of a cube.
    pub units: u32,
    /// Shared memory of a cube in bytes.
    pub shared_memory: usize,
    /// Operands that it reads.
    pub reads: Vec<Operand>,
    /// Operands that it writes.
    pub writes: Vec<Operand>,
}

impl Description {
    /// A kernel of no family and without settings.
    pub(crate) fn new(kernel: &'static str, dtype: DType, grid: [u32; 3], units: usize) -> Self {
        Self {
            kernel,
            family: None,
            settings: None,
            dtype,
            grid,
            units: units as u32,
            shared_memory: 0,
            reads: vec![],
            writes: vec![],
        }
    }

    /// Says which family it belongs to, and with which settings.
    pub(crate) fn of(mut self, family: Family, settings: impl Display) -> Self {
        self.family = Some(family);
        self.settings = Some(settings.to_string());
        self
    }

    /// Says how much shared memory a cube takes.
    pub(crate) fn sharing(mut self, bytes: usize) -> Self {
        self.shared_memory = bytes;
        self
    }

    /// Says what it reads; views of nothing are left out.
    pub(crate) fn reading(mut self, views: &[&View]) -> Self {
        self.reads.extend(used(views));
        self
    }

    /// Says what it writes.
    pub(crate) fn writing(mut self, views: &[&View]) -> Self {
        self.writes.extend(used(views));
        self
    }
}

fn used(views: &[&View]) -> impl Iterator<Item = Operand> {
    let operands = views.iter().map(|view| view.operand);
    operands.filter(|operand| !matches!(operand, Operand::Unused(_)))
}

impl Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.grid;
        write!(f, "{} {}", self.kernel, self.dtype)?;
        if let Some(family) = self.family {
            write!(f, " {family}")?;
        }
        if let Some(settings) = &self.settings {
            write!(f, " {settings}")?;
        }
        let (units, shared) = (self.units, self.shared_memory);
        write!(
            f,
            ": {x} x {y} x {z} cubes of {units} units, {shared} bytes shared"
        )?;
        write!(f, ", reads {}", list(&self.reads))?;
        write!(f, ", writes {}", list(&self.writes))
    }
}

fn list(operands: &[Operand]) -> String {
    let names: Vec<_> = operands.iter().map(ToString::to_string).collect();
    names.join(" + ")
}

/// Buffers for the operands of a plan.
pub(crate) struct Bound {
    handles: [Option<Handle>; Operand::COUNT],
}

impl Bound {
    pub(super) fn new() -> Self {
        Self {
            handles: [const { None }; Operand::COUNT],
        }
    }

    pub(super) fn bind(&mut self, operand: Operand, handle: Handle) {
        self.handles[operand.index()] = Some(handle);
    }

    /// The buffer of a view.
    pub(crate) fn handle(&self, view: &View) -> &Handle {
        let handle = self.handles[view.operand.index()].as_ref();
        handle.unwrap_or_else(|| unreachable!("{} is not bound", view.operand))
    }

    /// The buffer of a view as a kernel's argument, elements counted in the view's type.
    pub(crate) fn buffer(&self, view: &View) -> BufferArg {
        self.elements(view, view.dtype.size())
    }

    /// The same, in elements of `size` bytes.
    pub(crate) fn elements(&self, view: &View, size: usize) -> BufferArg {
        let handle = self.handle(view);
        // What lies past the reach of a 32-bit index no kernel asks for.
        let len = (handle.size_in_used() as usize / size).min(u32::MAX as usize);
        // SAFETY: the buffer holds so many, and kernels stay inside the shapes that were checked against it.
        unsafe { BufferArg::from_raw_parts(handle.clone(), len) }
    }
}
