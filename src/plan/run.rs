//! A plan, and the only place where one is run: scratch, launches, one check.

use core::fmt::{self, Display};
use std::sync::Arc;

use cubecl::prelude::Client;
use cubecl::server::Handle;

use super::draft::{Draft, Scratch};
use super::family::Family;
use super::operand::Operand;
use super::step::{Bound, Description, Step};
use super::tensors::{Bindings, Expected};
use crate::device::Device;
use crate::error::{Error, Result};

/// Bytes of an argument that a kernel does not use: the smallest buffer.
const UNUSED_BYTES: usize = 16;
/// Parts of a workspace begin at multiples of so many bytes, which suits every device.
const ALIGNMENT: usize = 256;

/// What a call will launch: kernels with their grids, the scratch that they need, and why faster ones refused.
///
/// Everything that can be refused was refused while it was planned. A plan holds no buffer: it can be kept, shared between
/// threads and run any number of times on tensors of the same layouts, types and alignment. Two plans are equal if what
/// [`describe`](Plan::describe) says is equal; the [`Display`] form says it in lines.
///
/// ```
/// use diff_flash_attn::{Bindings, DType, Inputs, Options, Tensor, device, plan_forward};
/// # fn main() -> Result<(), diff_flash_attn::Error> {
/// let client = device::default_client()?;
/// let ones = |shape: &[usize]| Tensor::from_f32(&client, DType::F32, shape, &vec![1.0; shape.iter().product()]);
/// let inputs = Inputs::standard(ones(&[1, 5, 2, 8])?, ones(&[1, 5, 2, 8])?, ones(&[1, 5, 2, 8])?);
/// let plan = plan_forward(&client, &inputs, &Options::default())?;
/// println!("{plan}");
/// let output = Tensor::empty(&client, DType::F32, &[1, 5, 2, 8]);
/// plan.run(&client, &Bindings::forward(&inputs, &output, None))?;
/// assert!(output.to_f32(&client)?.iter().all(|x| (x - 1.0).abs() < 1e-6));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Plan {
    operation: &'static str,
    device: Arc<Device>,
    steps: Vec<Box<dyn Step>>,
    scratch: Vec<Scratch>,
    unused: u8,
    expected: Vec<Expected>,
    refused: Vec<Refusal>,
}

/// A family that was asked first and did not take the problem.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Refusal {
    /// The family.
    pub family: Family,
    /// Why.
    pub reason: Error,
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {}: {}", self.family, self.reason)
    }
}

impl Plan {
    pub(crate) fn new(
        operation: &'static str,
        device: Arc<Device>,
        draft: Draft,
        expected: Vec<Expected>,
        refused: Vec<Refusal>,
    ) -> Self {
        Self {
            operation,
            device,
            steps: draft.steps,
            scratch: draft.scratch,
            unused: draft.unused,
            expected,
            refused,
        }
    }

    /// Every launch, in order.
    pub fn describe(&self) -> Vec<Description> {
        self.steps.iter().map(|step| step.describe()).collect()
    }

    /// The families that come first and did not take the problem.
    pub fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    /// Bytes of scratch that a run needs.
    pub fn workspace(&self) -> usize {
        self.parts().map(|(_, bytes)| padded(bytes)).sum()
    }

    /// What is allocated for a run: scratch, and what stands for arguments that kernels do not use.
    fn parts(&self) -> impl Iterator<Item = (Operand, usize)> {
        let scratch = self.scratch.iter().map(|part| (part.operand, part.bytes));
        let unused = (0..self.unused).map(|n| (Operand::Unused(n), UNUSED_BYTES));
        scratch.chain(unused)
    }

    /// Allocates the workspace and enqueues every launch; returns when the work is enqueued.
    ///
    /// # Errors
    /// [`Error::Plan`] and its kin if a tensor is missing, has another layout, type or alignment than planned, or if the
    /// client's device is another; [`Error::Launch`] if the device refuses a launch.
    pub fn run(&self, client: &Client, tensors: &Bindings<'_>) -> Result<()> {
        let mut bound = self.bind(client, tensors)?;
        for (operand, bytes) in self.parts() {
            bound.bind(operand, client.empty(bytes));
        }
        self.enqueue(client, &bound, tensors)
    }

    /// As [`run`](Self::run), allocating nothing: scratch is in `workspace`, a buffer of at least as many bytes as
    /// [`workspace`](Self::workspace) says that begins at a multiple of 256. No two runs may use one at a time.
    ///
    /// # Errors
    /// As [`run`](Self::run), and a workspace that is too small or begins elsewhere.
    pub fn run_in(
        &self,
        client: &Client,
        workspace: &Handle,
        tensors: &Bindings<'_>,
    ) -> Result<()> {
        self.check_workspace(client, workspace)?;
        let mut bound = self.bind(client, tensors)?;
        let mut start = 0;
        for (operand, bytes) in self.parts() {
            let rest = workspace.size_in_used() - (start + bytes) as u64;
            let part = workspace.clone().offset_start(start as u64);
            bound.bind(operand, part.offset_end(rest));
            start += padded(bytes);
        }
        self.enqueue(client, &bound, tensors)
    }

    fn check_workspace(&self, client: &Client, workspace: &Handle) -> Result<()> {
        let tensor = "workspace";
        if workspace.service != client.service_id() {
            return Err(Error::OtherDevice { tensor });
        }
        let (got, start) = (
            workspace.size_in_used(),
            workspace.offset_start.unwrap_or(0),
        );
        if got < self.workspace() as u64 || !start.is_multiple_of(ALIGNMENT as u64) {
            return Err(Error::Plan {
                tensor,
                got: format!("{got} bytes from byte {start} on"),
                expected: format!(
                    "{} bytes from a multiple of {ALIGNMENT} on",
                    self.workspace()
                ),
            });
        }
        Ok(())
    }

    /// The caller's tensors, if they are what was planned for.
    fn bind(&self, client: &Client, tensors: &Bindings<'_>) -> Result<Bound> {
        let device = Device::of(client);
        if !Arc::ptr_eq(&device, &self.device) && device != self.device {
            return Err(Error::Plan {
                tensor: "client",
                got: device.name().into(),
                expected: self.device.name().into(),
            });
        }
        let mut bound = Bound::new();
        for expected in &self.expected {
            let tensor = expected.take(client, tensors)?;
            bound.bind(expected.operand, tensor.handle().clone());
        }
        tensors.check_all_used(&self.expected)?;
        Ok(bound)
    }

    fn enqueue(&self, client: &Client, bound: &Bound, tensors: &Bindings<'_>) -> Result<()> {
        for step in &self.steps {
            // SAFETY: every view of a step is of an operand that was bound, to a buffer that holds what was planned.
            unsafe { step.enqueue(client, bound) };
        }
        let written = self.expected.iter().filter(|expected| expected.written);
        let written = written.filter_map(|expected| tensors.get(expected.operand));
        client
            .check(written.map(|tensor| tensor.handle()))
            .map_err(|reason| Error::Launch {
                operation: self.operation,
                reason: reason.to_string(),
            })
    }
}

/// A part's bytes with what keeps the next aligned.
fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

impl Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.workspace();
        writeln!(f, "{}, {bytes} bytes of workspace", self.operation)?;
        for step in self.describe() {
            writeln!(f, "  {step}")?;
        }
        for refusal in &self.refused {
            writeln!(f, "  {refusal}")?;
        }
        Ok(())
    }
}
