"""Writers: the content as HTML, Markdown, CSV and LaTeX; they arrange and escape, and compute nothing."""
