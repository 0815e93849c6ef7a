mod desired;
pub mod vars;
pub use desired::{Artifact, Desired, DesiredHook, DesiredNode, DesiredUpgrade, platform};
