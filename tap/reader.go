package tap

import "time"

// Reader reads several queues for one goroutine.
type Reader interface {
	// Read is Queue.Read of whichever queue has frames; which says whose they are. They are borrowed until the next Read of the Reader. ErrClosed when one of the queues
	// is closed. With the linux driver the first 8 ms of a wait keep the goroutine's place in the Go scheduler: GOMAXPROCS should be larger than the number of goroutines
	// that read, or others wait for them.
	Read(wait time.Duration) (which int, frames []Frame, err error)
}

// Together returns a Reader of the queues; nil when they are several of which one goroutine cannot wait for all: it can for those of the linux driver.
func Together(queues []Queue) Reader {
	if len(queues) == 1 {
		return single{queues[0]}
	}
	return together(queues)
}

// single is the Reader of one queue.
type single struct{ queue Queue }

func (s single) Read(wait time.Duration) (int, []Frame, error) {
	frames, err := s.queue.Read(wait)
	return 0, frames, err
}
