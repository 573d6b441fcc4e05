package stdio

import "sync/atomic"

// stopping is how an intake is asked to stop.
type stopping struct{ word atomic.Int32 }

const (
	stopDrain = iota + 1 // take what is there and end
	stopLeave            // end at once, all on disk
)

func (s *stopping) ask(leave bool) {
	if leave {
		s.word.Store(stopLeave)
		return
	}
	s.word.Store(stopDrain)
}

func (s *stopping) asked() bool { return s.word.Load() != 0 }
func (s *stopping) leave() bool { return s.word.Load() == stopLeave }
