//! DPDK's network drivers in EAL's folder: which devices each is for, and which kernel modules it needs.
//!
//! A driver carries this in its file, as text after a mark, for tools to read without loading it
//! (`RTE_PMD_REGISTER_PCI_TABLE`, `RTE_PMD_REGISTER_KMOD_DEP`; `dpdk-pmdinfo.py` reads the same).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Deserialize;

use super::machine::Machine;

/// What stands before a driver's text.
const MARK: &[u8] = b"PMD_INFO_STRING= ";
/// A number in a table of PCI identifiers that stands for any.
const ANY: u32 = 0xffff;

/// One driver.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Driver {
    /// Its name: `net_virtio`.
    pub(super) name: String,
    /// The kernel modules that it works over: `* igb_uio | uio_pci_generic | vfio-pci`.
    #[serde(default)]
    pub(super) kmod: String,
    /// Vendor, device, vendor and device of the subsystem.
    #[serde(default)]
    pci_ids: Vec<[u32; 4]>,
}

impl Driver {
    /// Whether the device stays with its kernel driver, which shares it with DPDK.
    pub(super) fn is_bifurcated(&self) -> bool {
        !self.kmod.is_empty() && !["vfio", "uio"].iter().any(|module| self.kmod.contains(module))
    }

    /// The kernel modules that a bifurcated driver needs.
    pub(super) fn modules(&self) -> Vec<&str> {
        self.kmod.split(['*', '&', '|', ' ']).filter(|module| !module.is_empty()).collect()
    }
}

/// The network drivers of the folder.
#[derive(Debug, Default)]
pub(super) struct Drivers(Vec<Driver>);

impl Drivers {
    /// Reads every network driver of the folder.
    pub(super) fn read(machine: &Machine, folder: &str) -> Drivers {
        let names = machine.names(folder);
        // One driver has several names there: that of its version is the one that EAL loads.
        let files = names.iter().filter(|name| {
            name.starts_with("librte_net_") && name.split_once(".so.").is_some_and(|(_, version)| version.contains('.'))
        });
        let drivers = files
            .flat_map(|name| described(&std::fs::read(machine.path(format!("{folder}/{name}"))).unwrap_or_default()));
        let drivers = drivers.collect();
        Drivers(drivers)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The driver of a virtual device, by the device's name: `net_af_packet0`.
    pub(super) fn of_virtual(&self, device: &str) -> Option<&Driver> {
        let fits = |driver: &&Driver| device.starts_with(&driver.name);
        self.0.iter().filter(fits).max_by_key(|driver| driver.name.len())
    }

    /// The driver of a PCI device.
    pub(super) fn of_pci(&self, ids: [u32; 4]) -> Option<&Driver> {
        let fits = |table: &[u32; 4]| table.iter().zip(ids).all(|(wanted, is)| *wanted == ANY || *wanted == is);
        self.0.iter().find(|driver| driver.pci_ids.iter().any(fits))
    }
}

/// The drivers and buses of the folder whose several names lead to different files. EAL loads by every name, and ends the
/// process when the second of them registers again what the first has.
pub(super) fn doubles(machine: &Machine, folder: &str) -> Vec<String> {
    let mut files: BTreeMap<String, BTreeSet<(u64, u64)>> = BTreeMap::new();
    let libraries = Path::new(folder).ancestors().nth(2).unwrap_or(Path::new("/"));
    for name in machine.names(folder) {
        let Some((stem, _)) = name.split_once(".so") else { continue };
        // Other drivers name it as a library that they need, which the linker finds two folders up.
        for path in [Path::new(folder).join(&name), libraries.join(&name)] {
            if let Ok(file) = machine.path(path).metadata() {
                files.entry(stem.to_owned()).or_default().insert((file.dev(), file.ino()));
            }
        }
    }
    files.into_iter().filter(|(_, files)| files.len() > 1).map(|(stem, _)| stem).collect()
}

/// The drivers that a file describes.
fn described(file: &[u8]) -> Vec<Driver> {
    let mut found = Vec::new();
    for at in memchr::memmem::find_iter(file, MARK) {
        let text = &file[at + MARK.len()..];
        let end = memchr::memchr(0, text).unwrap_or(text.len());
        // What is no JSON there is no description.
        found.extend(serde_json::from_slice::<Driver>(&text[..end]).ok());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIRTIO: &str = r#"{"name": "net_virtio", "kmod": "* igb_uio | uio_pci_generic | vfio-pci", "pci_ids": [[6900, 4096, 65535, 65535], [6900, 4161, 65535, 65535]]}"#;
    const USER: &str = r#"{"name": "net_virtio_user", "params": "path=<path>", "pci_ids": []}"#;
    const MLX5: &str =
        r#"{"name": "mlx5_eth", "kmod": "* ib_uverbs & mlx5_core & mlx5_ib", "pci_ids": [[5555, 4119, 65535, 65535]]}"#;

    fn drivers() -> Drivers {
        let file = format!(
            "\x7fELF\0PMD_INFO_STRING= {USER}\0junk\0PMD_INFO_STRING= {VIRTIO}\0PMD_INFO_STRING= {MLX5}\0PMD_INFO_STRING= {{broken"
        );
        Drivers(described(file.as_bytes()))
    }

    #[test]
    fn drivers_are_found_by_what_their_files_say_of_themselves() {
        let drivers = drivers();
        assert_eq!(drivers.len(), 3);
        assert_eq!(drivers.of_pci([0x1af4, 0x1041, 0x1af4, 1]).unwrap().name, "net_virtio");
        assert!(drivers.of_pci([0x1af4, 0x1042, 0x1af4, 1]).is_none());
        assert_eq!(drivers.of_virtual("net_virtio_user0").unwrap().name, "net_virtio_user");
        assert!(drivers.of_virtual("net_af_xdp0").is_none());
    }

    #[test]
    fn a_driver_that_shares_its_device_with_the_kernel_is_told_apart() {
        let drivers = drivers();
        let mlx5 = drivers.of_pci([0x15b3, 0x1017, 0, 0]).unwrap();
        assert!(mlx5.is_bifurcated());
        assert_eq!(mlx5.modules(), ["ib_uverbs", "mlx5_core", "mlx5_ib"]);
        assert!(!drivers.of_pci([0x1af4, 0x1000, 0, 0]).unwrap().is_bifurcated());
    }

    #[test]
    fn the_installed_drivers_describe_themselves_so() {
        let Some(folder) = vinet_fastpath::eal::drivers_folder() else { return };
        let drivers = Drivers::read(&Machine::this(), folder.to_str().unwrap());
        assert_eq!(drivers.of_pci([0x1af4, 0x1041, 0x1af4, 1]).unwrap().name, "net_virtio");
        assert_eq!(drivers.of_virtual("net_af_packet0").unwrap().name, "net_af_packet");
        assert_eq!(doubles(&Machine::this(), folder.to_str().unwrap()), [""; 0]);
        assert!(drivers.of_pci([0x15b3, 0x1017, 0, 0]).unwrap().is_bifurcated());
    }
}
