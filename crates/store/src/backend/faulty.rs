//! A back end that fails when it is told to.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// How it fails.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    /// As a disk that cannot be read or written.
    Io,
    /// As a disk without space.
    NoSpace,
    /// Reads give fewer bytes than were asked for.
    Short,
}

/// Passes everything on, except for one operation that it counts down to.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    failure: Failure,
    /// The number of operations before the one that fails.
    countdown: AtomicU64,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, failure: Failure, after: u64) -> Self {
        Self { inner, failure, countdown: AtomicU64::new(after) }
    }

    fn is_due(&self) -> bool {
        self.countdown.fetch_sub(1, Ordering::SeqCst) == 0
    }

    fn fail(&self) -> Result<()> {
        let kind = match self.failure {
            Failure::Io => io::ErrorKind::Other,
            Failure::NoSpace => io::ErrorKind::StorageFull,
            Failure::Short => return Ok(()),
        };
        if self.is_due() {
            return Err(Error::Generic { store: "faulty", source: Box::new(io::Error::from(kind)) });
        }
        Ok(())
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.fail()?;
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.fail()?;
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, mut options: GetOptions) -> Result<GetResult> {
        self.fail()?;
        if let (Failure::Short, Some(object_store::GetRange::Bounded(range))) =
            (self.failure, &mut options.range)
            && self.is_due()
        {
            range.end -= 1;
        }
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.fail()?;
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.fail() {
            Ok(()) => self.inner.delete_stream(paths),
            Err(error) => Box::pin(futures::stream::once(async { Err(error) })),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
