//! Without a device there is an error, not a panic, and a later call may find one.
#![cfg(feature = "wgpu")]

use diff_flash_attn::device;

/// The only test of this process: it changes the environment.
#[test]
fn missing_adapter_is_an_error() {
    // SAFETY: no other thread of this process reads or writes the environment.
    unsafe { std::env::set_var("CUBECL_WGPU_DEFAULT_DEVICE", "DiscreteGpu(4000)") };
    let missing = device::wgpu().map(drop).unwrap_err().to_string();
    assert!(missing.starts_with("wgpu: no device"), "{missing}");

    // SAFETY: as above.
    unsafe { std::env::remove_var("CUBECL_WGPU_DEFAULT_DEVICE") };
    let client = device::wgpu().expect("the adapter is back");
    let again = device::wgpu().expect("a started device stays");
    assert_eq!(client.service_id(), again.service_id());
    assert!(device::describe(&client).starts_with("wgpu<"));
}
