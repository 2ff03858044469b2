//! A kill at the n-th write of a life that begins in an empty directory.
