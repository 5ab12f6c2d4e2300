//go:build race

package stream_test

// raceDetector: the detector makes sync.Pool drop things at random.
const raceDetector = true
