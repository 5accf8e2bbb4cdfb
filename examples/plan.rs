//! Which kernels a call takes on this device, and why not others: `cargo run --example plan`, on an NVIDIA GPU
//! `cargo run --example plan --features cuda`.

use diff_flash_attn::{
    DType, Error, Inputs, Mask, Options, Tensor, device, forward, plan_backward, plan_forward,
};

fn main() -> Result<(), Error> {
    let client = device::default_client()?;
    let (batch, len, heads, d, dv) = (1, 512, 8, 64, 128);
    let options = Options::default()
        .with_mask(Mask::Causal)
        .with_save_for_backward(true);
    for dtype in [DType::BF16, DType::F16, DType::F32] {
        let empty = |shape: &[usize]| Tensor::empty(&client, dtype, shape);
        let inputs = Inputs::differential(
            empty(&[batch, len, heads, 2, d]),
            empty(&[batch, len, heads / 2, 2, d]),
            empty(&[batch, len, heads / 2, dv]),
            Tensor::from_f32(&client, DType::F32, &[heads], &vec![0.2; heads])?,
        );
        println!("== {dtype:?}");
        let plan = match plan_forward(&client, &inputs, &options) {
            Ok(plan) => plan,
            // A type that the device does not have, for example.
            Err(error) => {
                println!("{error}\n");
                continue;
            }
        };
        println!("{plan}");
        let Some(saved) = forward(&client, &inputs, &options)?.saved else {
            unreachable!("it was asked for");
        };
        let gradient = empty(&[batch, len, heads, dv]);
        let backward = plan_backward(&client, &inputs, &saved, &gradient, &options)?;
        println!("{backward}");
    }
    Ok(())
}
