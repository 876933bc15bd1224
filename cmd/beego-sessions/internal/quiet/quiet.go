// Package quiet keeps beego's core/config from complaining, when it is imported, that there is no conf/app.conf here. Packages
// are initialised in the order of their paths as far as what they import is, so that this one comes before.
package quiet

import "os"

var stdout, stderr = os.Stdout, os.Stderr

func init() {
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stdout, os.Stderr = null, null
	}
}

// Over ends the silence.
func Over() { os.Stdout, os.Stderr = stdout, stderr }
