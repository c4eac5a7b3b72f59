//! Setting the disk to work while contents come, so that there is less to wait for when they are all here.

use std::panic::resume_unwind;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use smart_sync_sync::apply::error::ApplyError;
use smart_sync_sync::apply::stage::Stage;

/// The number of bytes after whose arrival the disk is set to work.
const WRITE_OUT_BYTES: u64 = 32 << 20;

/// Is told of what came.
pub(super) struct WritingOut {
    much_came: SyncSender<()>,
    came: u64,
}

impl WritingOut {
    /// So many bytes more were staged.
    pub(super) fn advance(&mut self, bytes: u64) {
        self.came = self.came.saturating_add(bytes);
        if self.came >= WRITE_OUT_BYTES {
            self.came = 0;
            // It may still be busy with what came before, or have failed, which is told at the end.
            let _ = self.much_came.try_send(());
        }
    }
}

/// Stages contents while another thread has them written to the disk.
pub(super) fn writing_out<T, E: From<ApplyError>>(
    stage: &Stage<'_>,
    work: impl FnOnce(&mut WritingOut) -> Result<T, E>,
) -> Result<T, E> {
    thread::scope(|scope| {
        let (much_came, receiver) = sync_channel(1);
        let writing = scope.spawn(move || receiver.into_iter().try_for_each(|()| stage.write_out()));
        let mut disk = WritingOut { much_came, came: 0 };
        let worked = work(&mut disk);
        drop(disk);
        let written = writing.join().unwrap_or_else(|panic| resume_unwind(panic));
        worked.and_then(|worked| Ok(written.map(|()| worked)?))
    })
}
