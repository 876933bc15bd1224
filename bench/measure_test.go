// How a figure is measured, and how several of them become one.

package bench

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// sample is one measurement.
type sample struct {
	rate          float64       // operations per second
	p50, p99      time.Duration // of one operation
	allocs, bytes float64       // of the heap, per operation
	operations    int           // with those of the warm-up, which count nowhere else
	roundTrips    float64       // per operation, where they were counted
}

// measure runs an operation in several goroutines for some time. newWorker returns what one of them repeats, under a
// context that could be cancelled, as that of every request which net/http serves.
func measure(workers int, d time.Duration, newWorker func(ctx context.Context, i int) func() error) (sample, error) {
	operations := make([]func() error, workers)
	for i := range operations {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		operations[i] = newWorker(ctx, i)
	}
	latencies := make([][]time.Duration, workers)
	run := func(d time.Duration) (time.Duration, error) {
		errs := make(chan error, workers)
		var wg sync.WaitGroup
		began := time.Now()
		for i := range workers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				last := time.Now()
				for first := true; first || last.Sub(began) < d; first = false {
					if err := operations[i](); err != nil {
						errs <- err
						return
					}
					now := time.Now()
					latencies[i] = append(latencies[i], now.Sub(last))
					last = now
				}
			}()
		}
		wg.Wait()
		close(errs)
		return time.Since(began), <-errs
	}

	const warmUp = 10 // of it, once
	if _, err := run(d / warmUp); err != nil {
		return sample{}, err
	}
	var s sample
	for i, l := range latencies {
		s.operations += len(l)
		latencies[i] = make([]time.Duration, 0, 2*warmUp*len(l)) // so that append allocates nothing below
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	took, err := run(d)
	if err != nil {
		return sample{}, err
	}
	runtime.ReadMemStats(&after)

	all := slices.Concat(latencies...)
	slices.Sort(all)
	n := float64(len(all))
	s.operations += len(all)
	s.rate = n / took.Seconds()
	s.p50, s.p99 = all[len(all)/2], all[len(all)*99/100]
	s.allocs, s.bytes = float64(after.Mallocs-before.Mallocs)/n, float64(after.TotalAlloc-before.TotalAlloc)/n
	return s, nil
}

// interleaved takes samples of several candidates in turn, in another order in every round, so that what else the
// machine does hits all of them alike. It returns the rounds of each.
func interleaved(candidates, rounds int, take func(candidate int) (sample, error)) ([]series, error) {
	taken := make([]series, candidates)
	for range rounds {
		for _, c := range rand.Perm(candidates) {
			s, err := take(c)
			if err != nil {
				return nil, err
			}
			taken[c] = append(taken[c], s)
		}
	}
	return taken, nil
}

// series are the rounds of one candidate.
type series []sample

// median of a figure over the rounds.
func (s series) median(figure func(sample) float64) float64 {
	var figures []float64
	for _, sample := range s {
		figures = append(figures, figure(sample))
	}
	return median(figures)
}

func median(figures []float64) float64 {
	slices.Sort(figures)
	return (figures[(len(figures)-1)/2] + figures[len(figures)/2]) / 2
}

func (s series) rate() float64 { return s.median(func(s sample) float64 { return s.rate }) }

func (s series) p50() time.Duration {
	return time.Duration(s.median(func(s sample) float64 { return float64(s.p50) }))
}

func (s series) p99() time.Duration {
	return time.Duration(s.median(func(s sample) float64 { return float64(s.p99) }))
}

// spread is how far from the median half of the rounds were at most, as a part of it.
func (s series) spread() float64 {
	mid := s.rate()
	return s.median(func(s sample) float64 { return math.Abs(s.rate/mid - 1) })
}

// ratio is how many times as fast s was as the other, of the rates as they are shown: whoever divides them gets the same.
func (s series) ratio(other series) float64 { return shown(s.rate()) / shown(other.rate()) }

// each is how many µs an operation took, over all goroutines.
func (s series) each() float64 { return 1e6 / s.rate() }

// digits is how many a figure has that differs by a tenth to a quarter from round to round.
const digits = 2

// shown is a figure as it stands in the document.
func shown(x float64) float64 {
	x, _ = strconv.ParseFloat(rounded(x, digits), 64)
	return x
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// rounded writes a figure with no more digits than it has, 12345 with two as "12000".
func rounded(x float64, digits int) string {
	if x == 0 {
		return "0"
	}
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'e', digits-1, 64), 64)
	decimals := digits - 1 - int(math.Floor(math.Log10(math.Abs(rounded))))
	return strconv.FormatFloat(rounded, 'f', max(decimals, 0), 64)
}

// thousands writes 12345 as "12k".
func thousands(rate float64) string {
	if text := rounded(rate, digits); len(text) < 4 {
		return text
	}
	return rounded(rate/1000, digits) + "k"
}

// times writes a ratio.
func times(ratio float64) string { return rounded(ratio, digits) + "×" }

// milliseconds writes 12.3 ms as "12 ms".
func milliseconds(d time.Duration) string { return rounded(microseconds(d)/1000, digits) + " ms" }

// duration writes 123 µs as "120 µs", and from 1000 on as "1.0 ms".
func duration(usec float64) string {
	if usec = shown(usec); usec < 1000 {
		return rounded(usec, digits) + " µs"
	}
	return rounded(usec/1000, digits) + " ms"
}

func TestFiguresHaveTheDigitsThatTheyAreRoundedTo(t *testing.T) {
	for _, f := range []struct{ got, want string }{
		{thousands(12345), "12k"}, {thousands(9960), "10k"}, {thousands(1949), "1.9k"}, {thousands(996), "1.0k"}, {thousands(398), "400"},
		{times(11.5), "12×"}, {times(9.96), "10×"}, {times(0.997), "1.0×"}, {times(0.0996), "0.10×"}, {rounded(7209, 3), "7210"},
		{rounded(0, 2), "0"}, {milliseconds(304 * time.Microsecond), "0.30 ms"}, {milliseconds(99600 * time.Microsecond), "100 ms"},
		{duration(999), "1.0 ms"}, {duration(994), "990 µs"}, {duration(6.04), "6.0 µs"}, {duration(34567), "35 ms"},
	} {
		if f.got != f.want {
			t.Errorf("%s, want %s", f.got, f.want)
		}
	}
}
