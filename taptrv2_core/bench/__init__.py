"""Speed: `taptr bench`, our tracker and its peers side by side, from an image in memory to tracks in memory."""
