package check_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/bench/check"
)

// show shows a device seqs of a session.
func show(d *check.Device, session string, seqs ...int64) {
	for _, seq := range seqs {
		d.Entry([]byte(session), seq, nil)
	}
}

func TestDevice(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		shown   []int64
		own     []int64
		missing int
		broken  int
	}{
		"all":                    {shown: []int64{11, 12, 13, 14}},
		"hole":                   {shown: []int64{11, 13, 14}, missing: 1, broken: 1},
		"hole at the beginning":  {shown: []int64{13, 14}, missing: 2, broken: 1},
		"hole at the end":        {shown: []int64{11, 12}, missing: 2, broken: 1},
		"nothing":                {missing: 4, broken: 1},
		"repeat":                 {shown: []int64{11, 12, 12, 13, 14}, broken: 1},
		"known already":          {shown: []int64{10, 11, 12, 13, 14}, broken: 1},
		"disorder":               {shown: []int64{11, 13, 12, 14}, missing: 1, broken: 2},
		"past the head":          {shown: []int64{11, 12, 13, 14, 15}, broken: 1},
		"own sends":              {shown: []int64{11, 13}, own: []int64{12, 14}},
		"own send shown":         {shown: []int64{11, 12, 13, 14}, own: []int64{12}},
		"own send and one other": {shown: []int64{11, 14}, own: []int64{12}, missing: 1, broken: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &check.Device{}
			d.Start("s", 10)
			d.Start("other", 1)
			show(d, "other", 2)
			for _, seq := range c.own {
				d.Own("s", seq)
			}
			show(d, "s", c.shown...)
			show(d, "other", 3)
			require.Equal(t, c.missing, d.Settle("s", 14))
			require.Zero(t, d.Settle("other", 3))
			n, said := d.Problems()
			require.Equal(t, c.broken, n, said)
			// What was judged once is not judged again.
			show(d, "s", 15, 16)
			require.Zero(t, d.Settle("s", 16))
			n, said = d.Problems()
			require.Zero(t, n, said)
		})
	}
}

func TestDeviceThatMissedASessionAltogether(t *testing.T) {
	t.Parallel()
	d := &check.Device{}
	require.Equal(t, 3, d.Settle("s", 3))
}

func TestReached(t *testing.T) {
	t.Parallel()
	d := &check.Device{}
	d.Start("s", 1)
	show(d, "s", 2)
	require.False(t, d.Reached("s", 4))
	d.Own("s", 3)
	require.True(t, d.Reached("s", 3))
	show(d, "s", 4)
	require.True(t, d.Reached("s", 4))
}

func TestSkippedAndResync(t *testing.T) {
	t.Parallel()
	d := &check.Device{}
	d.Skipped([]byte("s"), 1, 10)
	d.CaughtUp()
	show(d, "s", 11)
	n, said := d.Problems()
	require.Zero(t, n, said)
	d.Skipped([]byte("s"), 12, 20)
	d.Resync()
	n, said = d.Problems()
	require.Equal(t, 2, n)
	require.Contains(t, said[0], "12 to 20 were skipped")
}

func TestLedger(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		seqs  []int64
		wrong int
	}{
		"all, in any order": {seqs: []int64{7, 6, 8}},
		"hole":              {seqs: []int64{6, 8}, wrong: 1},
		"repeat":            {seqs: []int64{6, 6, 7}, wrong: 1},
		"given before":      {seqs: []int64{5, 6}, wrong: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l check.Ledger
			l.Start("s", 5)
			for _, seq := range c.seqs {
				l.Answered("s", seq)
			}
			require.EqualValues(t, len(c.seqs), l.Total())
			wrong, said := l.Settle()
			require.Equal(t, c.wrong, wrong, said)
			require.Len(t, said, c.wrong)
		})
	}
}
