//! What a target takes, by its policy and by who runs this.

use smart_sync_sync::apply::metadata::Owners;
use smart_sync_sync::apply::plan::Policy;

use crate::config::Allowed;
use crate::failure::Failure;
use crate::settings::TargetPolicy;

pub(super) fn allowed(policy: &TargetPolicy) -> Result<Policy, Failure> {
    let allows = |what: Allowed| policy.allow.contains(&what);
    Ok(Policy {
        allows_excluded: allows(Allowed::ExcludedPaths),
        allows_set_id: allows(Allowed::SetId),
        allows_devices: allows(Allowed::Devices),
        allows_pipes_and_sockets: allows(Allowed::Sockets),
        allows_system_xattrs: false,
        makes_read_only: false,
        // Only root can give files away.
        owners: if rustix::process::geteuid().is_root() { Some(owners()?) } else { None },
    })
}

fn owners() -> Result<Owners, Failure> {
    let read = |path: &str| {
        std::fs::read(path).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => Err(error),
        })
    };
    Ok(Owners::parse(&read("/etc/passwd")?, &read("/etc/group")?))
}
