//! Files of codes, as `cairn code issue` writes them and `cairn code order` reads them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

/// The codes of a file, in its order.
pub fn read(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let Some(column) = header.split(',').position(|name| name == "code") else {
        bail!("{} has no column \"code\"", path.display());
    };
    let codes = lines.filter_map(|line| line.split(',').nth(column));
    Ok(codes.map(str::to_owned).collect())
}

/// Writes some codes as a file of their own.
pub fn write(path: &Path, codes: &[String]) -> anyhow::Result<()> {
    let lines: String = codes.iter().map(|code| format!("{code}\n")).collect();
    fs::write(path, format!("code\n{lines}"))?;
    Ok(())
}
