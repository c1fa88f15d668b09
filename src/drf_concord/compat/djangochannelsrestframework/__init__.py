"""The paths of djangochannelsrestframework."""
