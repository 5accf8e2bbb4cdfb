//! A Vulkan device, if need be in software; and a second one that is always in software.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use cubecl_wgpu::wgpu;

use super::apt;

/// Makes sure that there is an adapter, by installing Mesa's software driver (lavapipe) if there is none.
pub(crate) fn vulkan() -> Result<()> {
    if has_adapter() {
        return Ok(());
    }
    apt::install("a Vulkan driver", &["libvulkan1", "mesa-vulkan-drivers"])?;
    ensure!(
        has_adapter(),
        "Mesa's Vulkan drivers are installed, but offer no adapter"
    );
    Ok(())
}

/// Whether wgpu finds an adapter through one of its native interfaces.
fn has_adapter() -> bool {
    let native = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = native;
    let instance = wgpu::Instance::new(descriptor);
    !pollster::block_on(instance.enumerate_adapters(native)).is_empty()
}

/// Google's software Vulkan driver, as Debian's Chromium carries it.
pub(crate) struct SwiftShader {
    driver: &'static Path,
}

impl SwiftShader {
    /// Makes `command` see this driver and no other; loaders before 1.3.207 know only the second name.
    pub(crate) fn select(&self, command: &mut Command) {
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            command.env(variable, self.driver);
        }
    }
}

/// Makes sure that SwiftShader is there: its plane size, limits and types differ from lavapipe's.
pub(crate) fn swiftshader() -> Result<SwiftShader> {
    let driver = Path::new("/usr/lib/chromium/vk_swiftshader_icd.json");
    if !driver.exists() {
        apt::install(
            "SwiftShader, a second Vulkan driver",
            &["libvulkan1", "chromium"],
        )?;
        ensure!(
            driver.exists(),
            "chromium is installed, but {} is not there",
            driver.display()
        );
    }
    Ok(SwiftShader { driver })
}
