//! Putting a manifest into its component, and proving that it belongs there.

use super::binary::{MANIFEST_SECTION, custom_section, unpack};
use super::document::Manifest;
use super::error::{ManifestError, ManifestErrorKind};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// A component with its manifest inside, and the same manifest to lay beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The component file.
    pub wasm: Vec<u8>,
    /// The manifest file, byte for byte what the component carries.
    pub manifest_json: Vec<u8>,
}

/// Fills the checksum into a manifest and appends it to the component as its last section.
///
/// # Errors
/// When the component is not one or has a manifest already, or the manifest is wrong.
pub fn pack(component_wasm: &[u8], manifest_json: &[u8]) -> Result<Packed, ManifestError> {
    let unpacked = unpack(component_wasm)?;
    if unpacked.manifest.is_some() {
        return Err(ManifestError::new(ManifestErrorKind::Malformed, "the component carries a manifest already")
            .with_hint("pack the file as the linker wrote it"));
    }
    Manifest::parse(manifest_json)?;
    let syntax =
        |error: serde_json::Error| ManifestError::new(ManifestErrorKind::Syntax, format!("the manifest can't be read: {error}"));
    let mut tree: serde_json::Value = serde_json::from_slice(manifest_json).map_err(syntax)?;
    tree["artifact"]["checksum"] = checksum(component_wasm).into();
    let mut manifest_json = serde_json::to_vec_pretty(&tree).map_err(syntax)?;
    manifest_json.push(b'\n');
    // The pretty form may be longer than what was read, and must still be readable.
    Manifest::parse(&manifest_json)?;
    let section = custom_section(MANIFEST_SECTION, &manifest_json)
        .ok_or_else(|| ManifestError::new(ManifestErrorKind::TooLarge, "the manifest does not fit into a section"))?;
    let wasm = [component_wasm, &section].concat();
    // What is written must be readable: this also keeps the sum of both under the cap.
    unpack(&wasm)?;
    Ok(Packed { wasm, manifest_json })
}

/// Checks that a packed component and its manifest belong together: the checksum matches, and the manifest beside the file,
/// where there is one, is the manifest inside it.
///
/// # Errors
/// When the file is not a component, carries no manifest, or anything disagrees.
pub fn verify(packed: &[u8], beside: Option<&[u8]>) -> Result<Manifest, ManifestError> {
    let unpacked = unpack(packed)?;
    let embedded = unpacked.manifest.ok_or_else(|| {
        ManifestError::new(
            ManifestErrorKind::ManifestMissing,
            format!("manifest missing: there is no section `{MANIFEST_SECTION}`"),
        )
        .with_hint("the component was built and not packaged")
    })?;
    if beside.is_some_and(|beside| beside != embedded) {
        return Err(ManifestError::new(ManifestErrorKind::Disagree, "the manifest beside the component is not the one inside it")
            .with_hint("package the component again, or remove the file beside it"));
    }
    let manifest = Manifest::parse(embedded)?;
    let Some(expected) = &manifest.artifact.checksum else {
        return Err(ManifestError::new(ManifestErrorKind::ChecksumMissing, "the manifest names no checksum")
            .with_hint("package the component: that fills `artifact.checksum` in"));
    };
    let actual = checksum(unpacked.component);
    if *expected != actual {
        return Err(ManifestError::new(
            ManifestErrorKind::ChecksumMismatch,
            format!("checksum mismatch: the manifest says `{expected}`, the component has `{actual}`"),
        )
        .with_hint("the component was changed after packaging; build or fetch it again"));
    }
    Ok(manifest)
}

fn checksum(component: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(component) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
