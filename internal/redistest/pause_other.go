// This file stands in where processes cannot be paused.

//go:build !unix

package redistest

import (
	"errors"
	"os"
)

func pauseProcess(*os.Process, bool) error { return errors.ErrUnsupported }
